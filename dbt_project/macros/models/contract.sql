{#- The columns that a model's contract declares, quoted, without those in `but`; of this model where none is given. -#}
{% macro contract_columns(but=[], of=none) %}
    {%- set columns = [] -%}
    {%- for name in (of or model).columns if name not in but %}{% do columns.append(adapter.quote(name)) %}{% endfor -%}
    {{ return(columns) }}
{% endmacro %}


{#- The column that identifies a customer: the first of the primary key, as_of being the second in history. -#}
{% macro contract_key(of=none) %}
    {{ return(adapter.quote(key_column(of)) if execute else '') }}
{% endmacro %}


{#- The same column, not quoted. -#}
{% macro key_column(of=none) %}
    {{ return(((of or model).constraints | selectattr('type', 'equalto', 'primary_key') | first).columns[0]) }}
{% endmacro %}


{#- The declared table that a model is the history or the production of; of this model where none is given. -#}
{% macro source_table(of=none) %}
    {{ return((of or model).config.meta.table_name) }}
{% endmacro %}


{#- The production models, a table that others reference before those others. -#}
{% macro production_models() %}
    {%- set models, names = [], [] -%}
    {%- for generation in declared_tables() -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.materialized == 'production' -%}
            {%- if node.name not in names and node.config.meta.get('references') in [none] + names -%}
                {%- do models.append(node) -%}
                {%- do names.append(node.name) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(models) }}
{% endmacro %}


{#- The schema that holds the partitions of history, one per table and as_of. -#}
{% macro history_schema() %}
    {{ return('history') }}
{% endmacro %}
