"""The git repository of a run: cloned, brought up to date, and looked at afterwards."""
