def pytest_collection_modifyitems(items):
    """The longest test first, so that no process waits for another at the end."""
    items.sort(key=lambda item: item.name != "test_the_whole_chain_in_miniature")
