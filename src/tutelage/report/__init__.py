"""What a run has to say: sentences for the terminal, and one self-contained page.

answer    results -> the answer in plain sentences
figures   results -> SVG that follows the reader's light or dark theme
page      results -> the HTML page, from templates/
"""
