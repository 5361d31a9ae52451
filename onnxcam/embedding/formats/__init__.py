"""Folders in which a file with an explanation is deployed: a web page, a repository of Triton."""
