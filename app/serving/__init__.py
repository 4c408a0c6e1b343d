"""How the web is served: granian (`server`), the application it calls (`asgi`), and the way to Flask (`bridge`)."""
