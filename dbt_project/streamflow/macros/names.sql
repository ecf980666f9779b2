{#- Names and values as SQL. -#}

{#- A value as a literal of jsonb. -#}
{% macro as_json(value) %}{{ return("'" ~ tojson(value) | replace("'", "''") ~ "'::jsonb") }}{% endmacro %}


{#- Whether a source is a table in which a month lands; a project may also have other sources called staging. -#}
{% macro is_staged(source_name, table_name) %}{{ return(source_name == 'staging' and table_name in declared_tables()) }}{% endmacro %}


{#- One name, or a list of names, as a list of quoted identifiers. -#}
{% macro quoted(names) %}
    {%- set found = [] -%}
    {%- for name in ([names] if names is string else names) %}{% do found.append(adapter.quote(name)) %}{% endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- The SQL condition that rows of two relations have the same key; `key` is a list of quoted columns. -#}
{% macro same_row(left, right, key) -%}
    {%- for column in key %}{{ left }}.{{ column }} = {{ right }}.{{ column }}{{ ' and ' if not loop.last }}{% endfor -%}
{%- endmacro %}


{#- One name, or a list of names, as an SQL array of text. -#}
{% macro text_array(names) %}array['{{ ([names] if names is string else names) | map('replace', "'", "''") | join("', '") }}']{% endmacro %}
