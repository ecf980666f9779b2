{#-
  The history model of a table, the first column of its key, the condition that `newer` and `older` have the same row, and the columns
  that its file declares besides the key, each with name, quoted name, type and kind: number (a number or a date) or category. Before
  the project is read whole there are none.
-#}
{% macro report_table(table_name) %}
    {%- set found = {'history': ref(table_name ~ '_snapshots'), 'key': none, 'same_row': 'true', 'all': []} -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == table_name ~ '_snapshots' -%}
            {%- set primary_key = node.constraints | selectattr('type', 'equalto', 'primary_key') | first -%}
            {%- set key = primary_key.columns | reject('equalto', 'as_of') | list -%}
            {%- do found.update({'key': adapter.quote(key[0]), 'same_row': same_row('newer', 'older', quoted(key))}) -%}
            {%- for column in node.columns.values() if column.name not in key + ['as_of', 'observed_as_of'] -%}
                {%- set kind = 'category' if column.data_type in ['text', 'boolean'] else 'number' -%}
                {%- do found.all.append(
                    {'name': column.name, 'quoted': adapter.quote(column.name), 'data_type': column.data_type, 'kind': kind}
                ) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}


{#- A value as the number that means and quantiles are taken of: a date is days since 1970, a boolean 0 or 1, a text none. -#}
{% macro report_number(column) -%}
    {%- if column.data_type == 'date' -%}({{ column.quoted }} - date '1970-01-01')::double precision
    {%- elif column.data_type == 'boolean' -%}{{ column.quoted }}::int::double precision
    {%- elif column.data_type == 'text' -%}null::double precision
    {%- else -%}{{ column.quoted }}::double precision
    {%- endif -%}
{%- endmacro %}
