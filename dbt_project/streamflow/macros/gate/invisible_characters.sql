{#-
  For the brackets of a regular expression: blanks, control characters, and characters that Unicode displays as nothing. They are listed
  by number because the matches of \s depend on the database's locale, and it matches a zero-width space in none.
-#}
{% macro invisible_characters() -%}
    \u0001-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f
    {#- #}\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff
{%- endmacro %}


{#-
  The SQL condition that a key neither begins nor ends with a blank or an invisible character, and has at most 200 characters. A length
  bound in the pattern would be thirty times slower.
-#}
{% macro is_well_formed(column) -%}
    ({{ column }} !~ '^[{{ streamflow.invisible_characters() }}]|[{{ streamflow.invisible_characters() }}]$' and length({{ column }}) <= 200)
{%- endmacro %}
