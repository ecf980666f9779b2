{{ config(materialized="advance") }}

-- depends_on: {{ ref('gate') }}
{% for table_name in declared_tables() %}
-- depends_on: {{ source('staging', table_name) }}
{% endfor %}
select 1 as nothing_is_stored
