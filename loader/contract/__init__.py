"""The declared tables of the delivery, and the dbt models and packages that follow from them."""
