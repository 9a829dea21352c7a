"use strict";
{
  const data = JSON.parse(document.getElementById("mending").textContent);
  const {key, leave, separator, numbers, classes, images, copies} = data;
  const words = new Set(classes.map(([word]) => word));
  const shown = new Map(classes.map(([word, name]) => [word, word === name ? word : `${name} (${word})`]));

  // answers: digest -> new label; lines: those of a loaded file whose picture this page does not know
  let state = {answers: {...data.applied}, lines: []}, stored = true;
  try {
    state = JSON.parse(localStorage.getItem(key)) ?? state;
  } catch {
    stored = false;
  }
  const keep = () => {
    try {
      localStorage.setItem(key, JSON.stringify(state));
    } catch {
      stored = false;
    }
  };

  const split = cell => cell === "" ? [] : cell.split(separator);
  const join = set => classes.map(([word]) => word).filter(word => set.has(word)).join(separator);
  const isLabel = cell => separator === null ? words.has(cell) : split(cell).every(word => words.has(word));
  const wordOf = name => {
    const named = classes.filter(pair => pair[1] === name);
    return named.length === 1 ? named[0][0] : undefined;
  };
  const spoken = cell => separator === null ? shown.get(cell) ?? cell
    : split(cell).map(word => shown.get(word)).join(", ") || "no label";

  const cards = [...document.querySelectorAll(".mend li")].filter(card => card.dataset.path in images);
  const pictures = new Set(cards.map(card => images[card.dataset.path][0]));
  const bars = [...document.querySelectorAll(".mending")];
  const say = text => bars.forEach(bar => { bar.querySelector(".said").textContent = text; });
  const show = () => {
    for (const card of cards) {
      const [digest, label] = images[card.dataset.path], answer = state.answers[digest];
      const text = answer === undefined ? "" : answer === leave ? "left out"
        : answer === label ? "kept" : `→ ${spoken(answer)}`;
      card.querySelector(".answer").textContent = text;
      card.classList.toggle("decided", text !== "");
    }
    const decided = [...pictures].filter(digest => digest in state.answers).length;
    for (const bar of bars) {
      bar.querySelector("output").textContent = `${decided} of ${pictures.size} decided`;
      bar.querySelector(".unstored").hidden = stored;
      const forget = bar.querySelector(".forget");
      forget.hidden = state.lines.length === 0;
      forget.textContent = `Forget ${state.lines.length} lines of other pictures`;
    }
  };
  const decide = (digest, answer) => {
    if (answer === undefined || answer === state.answers[digest]) delete state.answers[digest];
    else state.answers[digest] = answer;
    keep();
    show();
  };

  const proposed = (card, label, before) => {
    const name = card.dataset.proposal;
    if (separator === null) return wordOf(name);
    // two equal pictures: the proposal is a whole set; else it is one label to add or to take away
    if (card.parentElement.dataset.whole !== undefined) return isLabel(name) ? name : undefined;
    const isAbsent = wordOf(name) === undefined && name.startsWith("not ");
    const word = wordOf(isAbsent ? name.slice(4) : name);
    const set = new Set(split(before === undefined || before === leave ? label : before));
    if (isAbsent) set.delete(word);
    else set.add(word);
    return word === undefined ? undefined : join(set);
  };
  const act = (card, pressed) => {
    const [digest, label] = images[card.dataset.path], before = state.answers[digest];
    const proposal = numbers || !card.dataset.proposal ? undefined : proposed(card, label, before);
    const isOther = before !== undefined && ![label, leave, proposal].includes(before);
    say("");
    if (pressed === "0") decide(digest, undefined);
    else if (pressed === "1") decide(digest, label);
    else if (pressed === "4") decide(digest, leave);
    else if (numbers) say("A number can be kept or left out; correct it in the label file.");
    else if (pressed === "2" && proposal === undefined) say("This picture has no proposal: 3 chooses a label.");
    else if (pressed === "2") decide(digest, proposal);
    else if (isOther && separator === null) decide(digest, undefined);
    else choose(before === undefined || before === leave ? label : before, cell => decide(digest, cell));
  };

  const dialog = document.querySelector(".chooser"), search = dialog.querySelector("input");
  const select = dialog.querySelector("select"), [take] = dialog.querySelectorAll("button");
  let picked = new Set(), finish = () => {};
  const list = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = classes.filter(([word]) => shown.get(word).toLowerCase().includes(wanted));
    select.replaceChildren(...found.map(([word]) => new Option(shown.get(word), word, false, picked.has(word))));
    if (separator === null && select.selectedIndex < 0) select.selectedIndex = 0;
    dialog.querySelector("output").textContent = separator === null ? "" : spoken(join(picked));
  };
  const choose = (cell, then) => {
    [picked, finish, search.value, dialog.returnValue] = [new Set(separator === null ? [cell] : split(cell)), then, "", ""];
    list();
    dialog.showModal();
    search.focus();
  };
  search.addEventListener("input", list);
  search.addEventListener("keydown", event => {
    if (event.key === "ArrowDown") select.focus();
    if (event.key !== "Enter" || separator === null || !search.value) return;
    event.preventDefault();
    const [first] = select.options;
    if (first && !picked.delete(first.value)) picked.add(first.value);
    search.value = "";
    list();
  });
  select.addEventListener("change", () => {
    if (separator === null) return;
    for (const option of select.options) picked[option.selected ? "add" : "delete"](option.value);
    dialog.querySelector("output").textContent = spoken(join(picked));
  });
  select.addEventListener("keydown", event => event.key === "Enter" && take.click());
  select.addEventListener("dblclick", () => separator === null && take.click());
  dialog.addEventListener("close", () => {
    const cell = separator === null ? select.value : join(picked);
    if (dialog.returnValue === "take" && isLabel(cell)) finish(cell);
  });

  // a spreadsheet runs cells that start like a formula: foldsmith writes an apostrophe before them
  const formula = /^'*([=@\t\r\n]|[+-](?![0-9.]+$))/;
  const quote = cell => {
    const text = formula.test(cell) ? `'${cell}` : cell;
    return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const unquote = cell => cell.startsWith("'") && formula.test(cell) ? cell.slice(1) : cell;
  const save = () => {
    const known = Object.entries(state.answers).flatMap(([digest, answer]) =>
      (copies[digest] ?? []).map(([path, old]) => [path, digest, old, answer]));
    const rows = [["path", "digest", "old", "new"], ...state.lines, ...known];
    const text = rows.map(row => row.map(quote).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  const parse = text => {
    const rows = [[]];
    for (const [, open, quoted, plain, end] of text.matchAll(/(")((?:[^"]|"")*)"(?=,|\r?\n|$)|([^,\r\n]+)|(,|\r?\n)/g)) {
      const row = rows.at(-1);
      if (end === ",") row.push(...row.length ? [""] : ["", ""]);
      else if (end) rows.push([]);
      else row[Math.max(0, row.length - 1)] = open ? quoted.replaceAll('""', '"') : plain;
    }
    return rows.filter(row => row.length).map(row => row.map(unquote));
  };
  const load = text => {
    const [head = [], ...rows] = parse(text.replace(/^\ufeff/, ""));
    const columns = ["path", "digest", "old", "new"].map(name => head.indexOf(name));
    if (columns.includes(-1)) return say("This is no file of corrections: it has other columns.");
    let stale = 0, elsewhere = 0, replaced = 0;
    for (const [path, digest, old, answer] of rows.map(row => columns.map(column => row[column] ?? ""))) {
      const fits = (copies[digest] ?? []).some(copy => copy[1] === old);
      if (!(digest in copies)) {
        state.lines.push([path, digest, old, answer]);
        elsewhere += 1;
      } else if (fits && (answer === leave || answer === old || isLabel(answer))) {
        if ((state.answers[digest] ?? answer) !== answer) replaced += 1;
        state.answers[digest] = answer;
      } else stale += 1;
    }
    state.lines = [...new Map(state.lines.map(row => [row.join("\n"), row])).values()];
    keep();
    show();
    const others = elsewhere ? `, ${elsewhere} of them for pictures that are not on this page` : "";
    const instead = replaced ? `, ${replaced} in place of choices made here` : "";
    say(`${rows.length - stale} lines loaded${others}${instead}${stale ? `; ${stale} do not fit these labels and were left out` : ""}.`);
  };

  let current = null;
  const at = card => {
    current?.classList.remove("at");
    current = card;
    current?.classList.add("at");
  };
  for (const card of cards) {
    card.tabIndex = 0;
    card.append(Object.assign(document.createElement("b"), {className: "answer"}));
    card.addEventListener("focus", () => at(card));
    card.addEventListener("blur", () => current === card && at(null));
    card.addEventListener("pointerenter", () => at(card));
    card.addEventListener("pointerleave", () => at(cards.includes(document.activeElement) ? document.activeElement : null));
  }
  document.addEventListener("keydown", event => {
    if (!current || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (step) cards[cards.indexOf(current) + step]?.focus();
    else if ("01234".includes(event.key)) act(current, event.key);
    else return;
    event.preventDefault();
  });
  for (const bar of bars) {
    bar.hidden = cards.length === 0;
    bar.querySelector(".save").addEventListener("click", save);
    bar.querySelector(".forget").addEventListener("click", () => {
      state.lines = [];
      keep();
      show();
    });
    const file = bar.querySelector("input");
    bar.querySelector(".load").addEventListener("click", () => file.click());
    file.addEventListener("change", async () => {
      if (file.files.length) load(await file.files[0].text());
      file.value = "";
    });
  }
  show();
}
