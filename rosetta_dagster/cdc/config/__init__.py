"""The settings of sources, destinations, pipelines and tables: each declared once, for rows and every other surface.

It may know the error tree and the values of `change`, and nothing that connects anywhere.
"""
