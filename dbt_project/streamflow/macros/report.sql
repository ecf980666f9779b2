{#-
  The history model of a table, the first column of its key, the condition that `newer` and `older` have the same row, and the columns
  that its file declares besides the key, each with name, quoted name, type and kind: number (a number or a date) or category. Before
  the project is read whole there are none.
-#}
{% macro report_table(table_name) %}
    {%- set found = {'history': ref(table_name ~ '_snapshots'), 'key': none, 'same_row': 'true', 'all': [], 'number': [], 'category': []} -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == table_name ~ '_snapshots' -%}
            {%- set primary_key = node.constraints | selectattr('type', 'equalto', 'primary_key') | first -%}
            {%- set key = primary_key.columns | reject('equalto', 'as_of') | list -%}
            {%- do found.update({'key': adapter.quote(key[0]), 'same_row': same_row('newer', 'older', quoted(key))}) -%}
            {%- for column in node.columns.values() if column.name not in key + ['as_of', 'observed_as_of'] -%}
                {%- set kind = 'category' if column.data_type in ['text', 'boolean'] else 'number' -%}
                {%- set entry = {'name': column.name, 'quoted': adapter.quote(column.name), 'data_type': column.data_type} -%}
                {%- do found.all.append(entry) -%}
                {%- do found[kind].append(entry) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}


{#- A value as the number that means and quantiles are taken of: a date is days since 1970, a boolean 0 or 1, a text none. -#}
{% macro report_number(alias, column) -%}
    {%- set value = alias ~ '.' ~ column.quoted -%}
    {%- if column.data_type == 'date' -%}({{ value }} - date '1970-01-01')::double precision
    {%- elif column.data_type == 'boolean' -%}{{ value }}::int::double precision
    {%- elif column.data_type == 'text' -%}null::double precision
    {%- else -%}{{ value }}::double precision
    {%- endif -%}
{%- endmacro %}


{#- The rows that a month and the month before delivered, one row a column; `values` names the column that the kind becomes. -#}
{% macro report_values(table, columns, kind) %}
{%- for side, date in [('true', 'as_of'), ('false', 'previous_as_of')] %}
    select
        months.as_of,
        months.previous_as_of,
        {{ side }} as is_new,
        cells.column_name,
        cells.value
    from {{ ref('published_months') }} as months
    inner join {{ table.history }} as snapshots on months.{{ date }} = snapshots.as_of
    cross join lateral (
        values
        {%- for column in columns %}
        ('{{ column.name }}', {% if kind == 'number' %}{{ report_number('snapshots', column) }}{% else %}snapshots.{{ column.quoted }}::text{% endif %}){{ ',' if not loop.last }}
        {%- endfor %}
    ) as cells (column_name, value)
    where snapshots.observed_as_of = snapshots.as_of
    {%- if not loop.last %}
    union all
    {%- endif %}
{%- endfor %}
{%- endmacro %}
