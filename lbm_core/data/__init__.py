"""§4.1: advertisers, who fills the market, trajectories, the benchmark's own files."""
