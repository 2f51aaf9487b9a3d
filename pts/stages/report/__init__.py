"""The stage `report`: a run or a set as one HTML page, with a vector set's effect on a run's completions."""
