"""Every way in: HTTP, web page, command line; and the one composition root that names concrete adapters."""
