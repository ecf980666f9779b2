{#-
  For a regular expression's brackets: blanks, control characters, and what Unicode shows as nothing. By number, as what \s matches
  depends on the database's locale, and a zero-width space is none in any.
-#}
{% macro invisible_characters() -%}
    \u0001-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f
    {#- #}\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff
{%- endmacro %}


{#- That nothing blank or invisible is around a key, and that it is not too long, as SQL. A bound within the pattern takes thirty times as long. -#}
{% macro is_well_formed(column) -%}
    ({{ column }} !~ '^[{{ streamflow.invisible_characters() }}]|[{{ streamflow.invisible_characters() }}]$' and length({{ column }}) <= 200)
{%- endmacro %}
