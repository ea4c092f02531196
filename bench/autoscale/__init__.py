"""Our rule and KEDA's on the same loads: how long messages wait, how often the number of processes changes."""
