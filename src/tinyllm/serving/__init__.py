"""An HTTP server that speaks OpenAI's protocol, for one checkpoint or several, and its web page.

A request's way, top to bottom:

    connection.py   the socket: how slow or silent a client may be
    guards.py       host, origin, key, size of the body; headers of every answer
    app.py          the routes                     json_bodies.py  bodies that must be JSON
    requests.py     what a body may hold           fields.py       what of OpenAI's is not in it
    orders.py       from a body to token ids, settings and a seed
    worker.py       the requests of one model       lanes.py        the threads that draw them
    jobs.py         what a request asks of those threads, and what it has got
    streaming.py    the answer as it grows, or whole; a client that leaves frees its rows
    dialects.py     the shapes of answers          answers.py      their schemas
    failures.py     the shape of errors            document.py     what /openapi.json says
    models.py       which checkpoints are served   metrics.py      what is counted
    page_files.py   the web page in `page/`
    run.py          from a config to a server that listens, and its orderly end

Everything but the drawing itself runs on one event loop. No text is logged.
"""
