"""The web page's files, which `darkroom.gateway.http.pages` serves. There is no code here."""
