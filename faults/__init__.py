"""The fault suite: a whole product under fire, and the providers' books to judge it by."""
