"""Several runs side by side: leaderboard, blends, ablations, studies."""
