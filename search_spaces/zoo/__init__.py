"""The networks of the papers' tables, one YAML file each."""
