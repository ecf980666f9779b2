{#- Sources besides staging that audits of this project read, as [[source, table], ...]: the gate waits for them. -#}
{% macro audited_besides() %}{{ return([]) }}{% endmacro %}
