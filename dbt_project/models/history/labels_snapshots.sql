{{ history_of('labels') }}
