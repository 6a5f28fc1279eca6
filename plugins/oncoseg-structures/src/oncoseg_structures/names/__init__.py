"""The primary names of TG-263, the grammar of what is built from them, and what a misspelt name may mean."""
