{#- Names and values as SQL. -#}

{#- A value as a literal of jsonb. -#}
{% macro as_json(value) %}{{ return("'" ~ tojson(value) | replace("'", "''") ~ "'::jsonb") }}{% endmacro %}


{#- Names, one or a list, as quoted identifiers. -#}
{% macro quoted(names) %}
    {%- set found = [] -%}
    {%- for name in ([names] if names is string else names) %}{% do found.append(adapter.quote(name)) %}{% endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- Whether two relations have the same row by its key, a list of quoted columns. -#}
{% macro same_row(left, right, key) -%}
    {%- for column in key %}{{ left }}.{{ column }} = {{ right }}.{{ column }}{{ ' and ' if not loop.last }}{% endfor -%}
{%- endmacro %}


{#- Names, one or a list, as an array of text. -#}
{% macro text_array(names) %}array['{{ ([names] if names is string else names) | map('replace', "'", "''") | join("', '") }}']{% endmacro %}
