"""The admin pages: HTML for people, under /ui of the admin port.

Each page is a client of the admin API in the same process. It calls the API with the credential of the user who has
signed in, so it can show and do nothing that the API refuses to this user.
"""
