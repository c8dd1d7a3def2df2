def text(results, charts):
    return ""
