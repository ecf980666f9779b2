{#-
  The history model of a table, the first column of its key, the condition that `newer` and `older` have the same row, and the columns
  that its file declares besides the key, each with its name as it is and quoted. Before the project is read whole there are none.
-#}
{% macro report_table(table_name) %}
    {%- set found = {'history': ref(table_name ~ '_snapshots'), 'key': none, 'same_row': 'true', 'all': []} -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == table_name ~ '_snapshots' -%}
            {%- set primary_key = node.constraints | selectattr('type', 'equalto', 'primary_key') | first -%}
            {%- set key = primary_key.columns | reject('equalto', 'as_of') | list -%}
            {%- do found.update({'key': adapter.quote(key[0]), 'same_row': same_row('newer', 'older', quoted(key))}) -%}
            {%- for column in node.columns.values() if column.name not in key + ['as_of', 'observed_as_of'] -%}
                {%- do found.all.append({'name': column.name, 'quoted': adapter.quote(column.name)}) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}
