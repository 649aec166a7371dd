"""Recipes: what assembles everything. The only room that sees both the model's side and the data's."""
