"""The objects that the operator creates, from the API's fields alone. Pure."""
