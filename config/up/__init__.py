"""`manage.py up`: the embedded engines and the supervisor of all processes on one machine."""
