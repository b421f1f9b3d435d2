"""Group statistics: tables in, tables and figures out."""
