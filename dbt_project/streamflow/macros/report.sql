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


{#-
  The quantile of a group of values with their counts, interpolated as percentile_cont does: between the two values beside the place
  share * (number_rows - 1). rows_up_to: how many rows have this value or a lower one.
-#}
{% macro report_quantile(share) -%}
    {%- set place = share ~ '::double precision * (number_rows - 1)' -%}
    {%- set below = 'min(number) filter (where rows_up_to > floor(' ~ place ~ '))' -%}
    {%- set above = 'min(number) filter (where rows_up_to > ceil(' ~ place ~ '))' -%}
    {{ below }} + ({{ above }} - {{ below }}) * max({{ place }} - floor({{ place }}))
{%- endmacro %}


{#- Row grain: as_of, previous_as_of, table, column and value. How many rows with the value either month delivered. -#}
{% macro report_counts_of_both_months(kind) %}
    select
        as_of,
        previous_as_of,
        table_name,
        column_name,
        number,
        category,
        coalesce(sum(delivered_rows) filter (where not is_new), 0) as rows_before,
        coalesce(sum(delivered_rows) filter (where is_new), 0) as rows_now
    from (
        {%- for date, is_new in (('as_of', true), ('previous_as_of', false)) %}
        select
            months.as_of,
            months.previous_as_of,
            counts.table_name,
            counts.column_name,
            counts.number,
            counts.category,
            counts.delivered_rows,
            {{ is_new }} as is_new
        from {{ ref('published_months') }} as months
        inner join {{ ref('report_value_counts') }} as counts on months.{{ date }} = counts.as_of
        where counts.kind = '{{ kind }}'
        {{- ' union all' if is_new }}
        {%- endfor %}
    ) as delivered
    group by as_of, previous_as_of, table_name, column_name, number, category
{%- endmacro %}
