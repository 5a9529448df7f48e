"""What a run has to say: sentences for the terminal, one self-contained page, and Markdown.

answer    results -> the answer in plain sentences
folder    a run's folder -> its results, and tables of what stands beside them
rows      the test rows and what was said of them -> two compressed blocks for the page
figures   results -> SVG that follows the reader's light or dark theme
page      all of it -> report.html and report.md, from templates/
two_runs  two folders -> what one run reached more than the other, paired where it can be
wording, markdown   numbers and names as they are written
"""
