"""What speaks to an agent: the MCP server, the command line, the knowledge files, the demo."""
