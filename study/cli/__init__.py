"""The command line: options and manuals, what each command does, what it prints, `study ui`.

May import every other room; nothing imports it.
"""
