"""The checks of the kit, one module per kind of component."""
