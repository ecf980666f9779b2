{{ newest_of('users') }}
