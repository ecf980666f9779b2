{{ newest_of('labels') }}
