"""What a daemon tells its operator: metrics, traces and the format of its log.

What always holds: where nothing of it is set, nothing of it is imported and a report is one comparison;
nothing here sees rows, statements, users or data subjects; what is shown grows neither with time nor with
what somebody names.
"""
