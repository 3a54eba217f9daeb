"""The executor as a service of the machine: systemd, launchd, the Task Scheduler of Windows."""
