{#-
  The DDL that creates schema ops, or upgrades it to this version. The comment of ops.loads holds the DDL's hash: if the hash is missing
  or differs, the database has no ledger yet or that of another version. Plain Jinja, as all of this folder: the loader renders it before
  dbt is up (loader/database/ddl.py).
-#}
{% macro ops_ddl() -%}
{{ streamflow.ops_tables() ~ streamflow.ops_cluster() ~ streamflow.ops_proofs() ~ streamflow.ops_declared() }}
{{- streamflow.ops_references() ~ streamflow.ops_undo() ~ streamflow.ops_steps() ~ streamflow.ops_production() }}
{%- endmacro %}
