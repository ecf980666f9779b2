{{ scd2_of('users') }}
