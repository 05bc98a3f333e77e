"""Which bundles answer and who gets which: one versioned document in the store that every replica follows.

document    what it says and what it may not say
changes     from one document to the next
assignment  from a user to what answers them
table       the document in the store: read, compare-and-swap, its history, what replicas report
residents   the bundles that one replica holds: loaded and warmed beside the others, released when nobody needs them
lease       who acts where one is enough
switching   from a document that is wanted to replicas that have it, or a halt that says who does not
"""
