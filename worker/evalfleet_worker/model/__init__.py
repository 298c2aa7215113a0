"""The model as files: found, fetched once, converted, identified by content, and what their headers say."""
