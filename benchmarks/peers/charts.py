def write(results, directory):
    return {}
