"""A MediaWiki dump, made into text: `tinyllm extract-wiki`.

    dump.xml.bz2 --dump.py--> raw pages                                       one process
    raw page --page.py--> Page --markup.py, templates.py--> plain text        many (batches.py)
    plain texts --extract.py--> TEXT, in the order of the dump                one process

The reading process only decompresses and cuts at `<page>`, so that XML and wikitext, which take
the time, are read side by side. Batches of pages come back in the order of the dump: the bytes do
not depend on the number of processes, and the place in the dump after each batch is journalled.
"""
