"""The commands, by what they are for: ``make``, ``read``, ``check``. They and ``cli`` alone print."""
