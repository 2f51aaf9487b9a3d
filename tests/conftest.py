"""One thread for every test and what it starts: the models are tiny, and their steps too short to share."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
