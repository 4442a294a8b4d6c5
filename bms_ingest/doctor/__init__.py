"""What goes wrong in practice, looked for in five seconds; each line says what was found and what to do."""
