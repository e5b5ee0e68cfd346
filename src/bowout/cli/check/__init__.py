"""``bowout check``: how does an endpoint end its connections?"""
