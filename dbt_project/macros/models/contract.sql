{#- The columns that this model's contract declares, quoted, without those in `but`. -#}
{% macro contract_columns(but=[]) %}
    {%- set columns = [] -%}
    {%- for name in model.columns if name not in but %}{% do columns.append(adapter.quote(name)) %}{% endfor -%}
    {{ return(columns) }}
{% endmacro %}


{#- The column that identifies a customer: the first of the primary key, as_of being the second in history. -#}
{% macro contract_key() %}
    {{ return(adapter.quote((model.constraints | selectattr('type', 'equalto', 'primary_key') | first).columns[0]) if execute else '') }}
{% endmacro %}


{#- The schema that holds the partitions of history, one per table and as_of. -#}
{% macro history_schema() %}
    {{ return('history') }}
{% endmacro %}
